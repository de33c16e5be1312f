// Servers may ask for a token: it is typed in once, kept until the tab is closed, and sent along.

const KEY = "predictor-token";
const at = (id) => document.getElementById(id);
let asking = null;

/** Fetch as `fetch` does; where the server wants a token, ask for one and try again. */
export async function ask(address, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
    const response = await fetch(address, { ...options, headers });
    if (!(await isRefused(response))) return response;
    asking ??= show(token !== null).finally(() => (asking = null));
    if (!(await asking)) return response;
  }
}

/** What a command needs in front of its address to be let in: it names the token without showing it. */
export function tokenOption() {
  return sessionStorage.getItem(KEY) === null ? "" : '-H "Authorization: Bearer $TOKEN" ';
}

/** Say whether a token was missing or wrong: 401, or TorchServe's 400. */
async function isRefused(response) {
  if (response.status !== 400) return response.status === 401;
  return (await response.clone().text()).includes('"InvalidKeyException"');
}

/** Show the dialog; resolves to whether a token was given. */
function show(again) {
  const dialog = at("token");
  at("token-note").hidden = !again;
  at("token-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      const given = dialog.returnValue === "use";
      if (given) sessionStorage.setItem(KEY, at("token-value").value.trim());
      at("token-value").value = "";
      resolve(given);
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}
