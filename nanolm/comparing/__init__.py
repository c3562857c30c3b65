"""Many runs -> tables per corpus, intervals, verdicts, figures, one page.

In: run folders or W&B's API. Out: what can be believed about their differences.
"""
