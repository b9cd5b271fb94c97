"""The second system, `mfd contig`: an image encoder that learns from each person's own genetic data.

ContIG: Taleb, Kirchler, Monti and Lippert, CVPR 2022, pp. 20908-20921 (arXiv 2111.13424). Nothing outside of this room but the
command line imports it. A person is who was genotyped and photographed; a cohort is the prepared dataset.
"""
