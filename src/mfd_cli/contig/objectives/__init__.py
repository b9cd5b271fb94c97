"""What an encoder is trained for: ContIG, and the rivals that it is compared with."""
