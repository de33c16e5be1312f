"""What crosses between the front end and a worker: the messages, and how they are framed."""
