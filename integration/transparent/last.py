"""The outcome, code and tool of the last decision in a log."""
import json, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
last = [line for line in lines if line["type"] == "decision"][-1]
print(last["outcome"], last["code"], last["tool"])
