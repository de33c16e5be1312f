"""HTTP/1.1: connections, requests and responses, and the application in front."""
