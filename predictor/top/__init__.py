"""`predictor top`: a running server in a terminal. Knows only what `/metrics` tells."""
