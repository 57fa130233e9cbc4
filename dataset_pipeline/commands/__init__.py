"""What each call of the command line does. Parsing and printing stay in ``cli.py``."""
