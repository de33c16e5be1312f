"""The Open Inference Protocol (V2) itself: its names and messages, for both sides of the socket."""
