"""What turns rows into tensors and tensors into answers. Imported by workers only."""
