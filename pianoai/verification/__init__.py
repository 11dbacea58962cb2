"""Runs the zip as AWS Lambda would and measures it: real runtime client, little memory, a sliver of a CPU."""
