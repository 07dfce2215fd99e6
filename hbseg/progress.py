"""How far a step is: beats of its processes, and what storage tells of them."""
