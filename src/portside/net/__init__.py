"""Service rules, cluster DNS, CNI configuration."""
