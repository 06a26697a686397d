"""What controllers must stand: deaths at every write, refusals, lost answers, late news and broken watches."""
