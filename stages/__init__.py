"""One thin module for each DVC stage: python -m stages.NAME."""
