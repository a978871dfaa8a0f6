"""What experiments share: the command line and the folder of a run, image and student runs, and their judges."""
