"""Answers where Grafana would: this machine has none, and its image cannot be fetched. Checks that the files that Grafana would
read are mounted where Grafana would look for them."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WANTED = ["/etc/grafana/provisioning", "/etc/grafana/dashboards", os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        missing = [path for path in WANTED if not os.access(path, os.R_OK)]
        healthy = self.path == "/api/health" and not missing
        body = json.dumps({"stand-in": True, "missing": missing}).encode()
        self.send_response(200 if healthy else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
