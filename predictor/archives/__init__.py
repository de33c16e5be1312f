"""Reading, checking and writing model archives. Needs neither torch nor kserve."""
