"""What an operator wants: patterns, rules, limits, hours and the brake, checked and compiled."""
