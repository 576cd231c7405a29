import os

from flask import Flask, jsonify

app = Flask(__name__)


@app.route("/")
def hello():
    return f"{os.environ.get('GREETING', 'Hello')} from an image that rbuild built\n"


@app.route("/healthz")
def healthz():
    return jsonify(status="ok")


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "5000")))
