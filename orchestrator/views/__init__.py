"""What people look at while an exploration runs, and afterwards."""
