"""What an operator configures: patterns, rules, limits, hours and the brake, checked and compiled."""
