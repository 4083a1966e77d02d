"""The science side: data preparation, training and scoring, one program each (`python -m trainers`).

See docs/contract.md for the files. `trainers.prepare` and `trainers.scoring` know the truth; no other module imports
them, and training runs from a tree that does not contain them.
"""
