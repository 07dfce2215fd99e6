"""Pods, whatever the kind of their job: what is put into their templates, and what they tell."""
