<?php require "inc/greeting.php"; echo greeting($_GET["name"] ?? "world"), "\n";
