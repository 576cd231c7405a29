from flask import Flask, render_template

application = Flask(__name__)


@application.get("/")
def index():
    return render_template("index.html", notes=["one", "two"])


@application.get("/health")
def health():
    return {"healthy": True}
