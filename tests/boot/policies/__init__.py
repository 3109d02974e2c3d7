"""What a policy demands, and how a volume is opened and closed as a machine meets it or not."""
