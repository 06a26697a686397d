"""What Portside's users put into their own tests."""
