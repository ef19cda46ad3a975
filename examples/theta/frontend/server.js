// Stands in for theta's Next.js frontend: one page, and /health.
const http = require("node:http");

const api = process.env.NEXT_PUBLIC_API_URL || "";
const version = process.env.VERSION || "0";
const page = `<!doctype html><title>theta ${version}</title><h1>theta</h1><p id="queue"></p>
<script>fetch("${api}/api/queue").then(r => r.json()).then(q => queue.textContent = q.length + " trainings are waiting")</script>`;

const server = http.createServer((request, response) => {
  if (request.url === "/health") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ status: "ok", version }));
  } else if (request.url === "/") {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    response.end(page);
  } else {
    response.writeHead(404);
    response.end();
  }
});

server.listen(3000, "0.0.0.0");
// As PID 1 it is not ended by a signal that it does not ask for.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
