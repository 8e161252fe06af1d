"""A recorded run as pictures and films, in a theme's colours: what replaying shows, and what exports draw."""
