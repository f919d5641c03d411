"""Small networks of every common layer and block, and what each format makes of them."""
