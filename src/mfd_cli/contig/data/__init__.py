"""Files to arrays and back: pictures, genotypes, tables, and the cohort folder. Nothing here knows torch."""
