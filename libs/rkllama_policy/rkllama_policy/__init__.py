"""What jobs cost boards, when a board claims one, and what it evicts: pure functions, no clock."""
