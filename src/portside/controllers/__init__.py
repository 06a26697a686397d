"""Controllers, one file each: pure planners under one harness."""
