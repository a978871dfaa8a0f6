"""Weights of Stable Diffusion 1.x, 2.x and XL: read from and written to the hub's folders and single files."""
