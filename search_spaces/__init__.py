"""What may be tried: named spaces and recipes, composed from components."""
