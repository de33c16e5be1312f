// Show our OpenAPI document with Swagger UI, which came before this as a plain script.

const root = new URL("..", import.meta.url);
const response = await fetch(new URL("openapi.json", root));
const spec = await response.json();

// Behind a path prefix the server's paths start there, not at the host's root.
spec.servers = [{ url: root.href.replace(/\/$/, "") }];
// Our operations say what they do in one sentence, which Swagger UI lists only if it is called a summary.
for (const operation of Object.values(spec.paths).flatMap(Object.values)) {
  operation.summary ??= operation.description;
  if (operation.summary === operation.description) delete operation.description;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.SwaggerUIBundle({
  spec,
  domNode: document.getElementById("api"),
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  defaultModelsExpandDepth: -1,
});
