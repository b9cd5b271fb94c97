"""A cohort with a planted truth: genotypes, what they do to eyes, and pictures of those eyes."""
