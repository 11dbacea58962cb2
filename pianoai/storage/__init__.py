"""Where artifacts are shared: an S3 server of one's own, DVC with advice, and an audit of what is stored."""
