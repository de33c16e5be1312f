"""Who may ask for what: tokens and the routes that need one, TLS certificates, other origins (CORS).

Nothing here knows a protocol's bodies or opens a port; `http/application.py` and the gRPC interceptor ask.
"""
