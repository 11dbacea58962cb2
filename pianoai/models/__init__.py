"""One file a model; what they share stands in frame.py, supervised.py and adversarial.py."""
