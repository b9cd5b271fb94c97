"""Associations of variants with what an image network sees: the verb `gwas`, and what it writes."""
