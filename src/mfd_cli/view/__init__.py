"""A genome browser in one HTML file: what mfd wrote about some regions, side by side."""
