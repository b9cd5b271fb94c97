"""What a trained network is worth for labels that somebody gave: `mfd contig finetune`."""
