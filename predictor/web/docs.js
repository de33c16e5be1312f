// Show our OpenAPI document with Swagger UI, which came before this as a plain script.

const root = new URL("..", import.meta.url);
const response = await fetch(new URL("openapi.json", root));
const spec = await response.json();
// Behind a path prefix the server's paths start there, not at the host's root.
spec.servers = [{ url: root.href.replace(/\/$/, "") }];

window.SwaggerUIBundle({
  spec,
  domNode: document.getElementById("api"),
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
});
