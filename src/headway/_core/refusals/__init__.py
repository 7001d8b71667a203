"""What a refusal teaches, and whether the job is tried again."""
