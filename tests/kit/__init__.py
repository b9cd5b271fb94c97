"""What tests share: a tiny world, ways to harm a file, a process that dies at a given moment."""
