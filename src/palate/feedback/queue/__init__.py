"""The queue of a campaign: tasks for people, their votes, figures, and the decisions of reviewers."""
