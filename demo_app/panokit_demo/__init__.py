"""The demo: what the network sees in photos, as a page to look at."""
