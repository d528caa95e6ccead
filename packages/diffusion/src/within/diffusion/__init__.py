"""Model schedules for diffusion sampling."""
