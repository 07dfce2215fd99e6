"""What determines a result (specs), and where it runs (placement, profile, settings)."""
