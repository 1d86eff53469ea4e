"""What lies where in a run's folder, and how it is written so that nothing is lost."""
