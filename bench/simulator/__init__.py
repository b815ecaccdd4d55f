"""Boards in virtual time: the policy's own functions on made-up traffic, to compare and to find regressions."""
