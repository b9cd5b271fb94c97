"""The kinds of data that a person may have besides pictures: how each is opened, chosen, and made into numbers."""
