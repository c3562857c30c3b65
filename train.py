"""python train.py model=small tokenizer=word: trains one model into one run folder; -m sweeps."""

from nanolm.cli.door import door, train

if __name__ == "__main__":
    door("train", train)
