"""What must hold for each exercise: a file for each chapter."""
